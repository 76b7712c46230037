"""How fast this machine trains and evaluates a shape of model, measured once and kept."""
