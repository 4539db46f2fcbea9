"""Boosted trees of XGBoost, LightGBM and scikit-learn: their formats, and what each computes from its trees."""
