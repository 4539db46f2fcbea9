"""What a deployment consists of, as typed nouns that renderers, prices, limits and grants are computed from"""
