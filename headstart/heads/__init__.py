"""Closed-form heads on frozen features: logistic regression, its strength chosen by cross-validation."""
