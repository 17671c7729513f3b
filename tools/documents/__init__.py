"""The documents of evalsets/ja-documents: each kind's data, its picture, and the questions that the data answers."""
