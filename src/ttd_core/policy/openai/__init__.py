"""The ``openai`` backend: any server of OpenAI's chat completions; :mod:`.policy` asks it for replies."""
