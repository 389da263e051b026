"""A chat completion server on this machine, whose answers a test decides."""

import html
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[dict], tuple[int, bytes]]


class Server:
    """A chat completion server whose answers the test decides."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Answer = oracle
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(body)
                server.headers.append(dict(self.headers))
                status, data = server.answer(body)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/v1/chat/completions")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/v1"


def said(text: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def oracle(body: dict) -> tuple[int, bytes]:
    """Names the commonest marked token, and judges by it."""
    question = body["messages"][-1]["content"]
    tokens = [html.unescape(each) for each in re.findall(r"<token>(.*?)</token>", question)]
    claim = re.search(r"<explanation>(.*?)</explanation>", question)
    if claim:
        return 200, said("Yes." if f"“{tokens[0].strip()}”" in html.unescape(claim[1]) else "No.")
    best = max(sorted(set(tokens)), key=tokens.count)
    return 200, said(f"the word “{best.strip()}”\nand nothing else")
