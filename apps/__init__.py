"""The Streamlit app: what a workspace holds, unit by unit.

`launch` starts it, `browser` is the script Streamlit runs, `views` holds one file a page. Only
pages that run a model import torch, and none computes what a job can compute beforehand. `jobs`
starts such jobs as processes of their own.
"""
