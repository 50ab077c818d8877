"""Results, runs, searches, streams and frontiers as HTML pages, Markdown and CSV."""
