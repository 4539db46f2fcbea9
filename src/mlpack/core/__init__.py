"""The ground that every room stands on: the nouns of a build, names for content, text and files of strangers."""
