"""`bluestab auto`: from data and a budget to a model: a plan, a race over arms, a confirmation."""
