"""The Streamlit app: what a workspace holds, unit by unit.

`launch` starts it, `browser` is the script Streamlit runs, `views` holds one file a page. No page
but *Your text* imports torch, and none computes what a job can compute beforehand.
"""
