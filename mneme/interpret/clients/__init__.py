"""Who answers questions about latents: an OpenAI-compatible server or a model in this process; replies are kept."""
