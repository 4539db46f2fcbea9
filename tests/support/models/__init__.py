"""Small models in every format, made when a test asks; `foreign_*` are those that strangers brought, made anew."""
