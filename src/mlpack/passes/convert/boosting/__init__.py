"""Boosted trees of XGBoost, LightGBM and scikit-learn: their formats, and what each makes of its trees."""
