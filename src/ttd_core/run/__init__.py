"""One run: sampling, judging and learning step after step, and the folder that it leaves."""
