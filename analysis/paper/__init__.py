"""The paper's published numbers (`published`), and tables of ours beside them (`replication`).

Examples:
    >>> from analysis.paper import published
    >>> published.log_likelihoods("mnist")[["depth", "variant", "value"]].to_dict("list")
    {'depth': [5, 5], 'variant': ['VAE+BN+WU', 'Prob. ladder+BN+WU'], 'value': [-82.14, -81.87]}

"""
