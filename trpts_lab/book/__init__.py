"""The press: runs the chapters, stages them into the book, builds the pages."""
