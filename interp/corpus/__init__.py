"""Labelled text: the packaged corpora, a user's own files, and data sets of the hub."""

from interp.corpus.document import Corpus, Document
from interp.corpus.load import load_corpus
from interp.corpus.packaged import fetch_corpus, known_corpora
from interp.corpus.split import split_heldout

__all__ = ["Corpus", "Document", "fetch_corpus", "known_corpora", "load_corpus", "split_heldout"]
