"""The ``openai`` backend: any server of OpenAI's chat completions, frozen."""
