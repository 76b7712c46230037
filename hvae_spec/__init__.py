"""Deep hierarchical VAEs from YAML: specs, models, objectives, training, evaluation and records."""
