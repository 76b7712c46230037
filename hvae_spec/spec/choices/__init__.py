"""What a spec can choose from: one file for each kind of choice, one torch-free description for each choice.

A description says what plans, summaries and reports must know. What a choice computes is registered under the same name
in `hvae_spec.nn`, `hvae_spec.training` or `hvae_spec.data`. Nothing outside asks for a choice by its name.
"""
