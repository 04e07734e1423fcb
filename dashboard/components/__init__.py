"""Pieces that several pages share. Those that decide something are plain functions without Streamlit."""
