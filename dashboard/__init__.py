"""The dashboard: Streamlit pages over a run. No SQL (mneme/store/queries) and no model here."""
