"""The problem `ngram-eval`: predict a text byte by byte with a cache of what was already scored."""
