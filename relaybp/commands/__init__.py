"""The commands of `relay`: train, evaluate, plan, plot and more, one module each."""
