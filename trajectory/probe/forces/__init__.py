"""Forces on a sink's weight and value, their coupling, and the arrows of the gradient flow.

Definitions: two hooks on one head and key (``probe.hooks``), a on the key's logit and b on the
logarithm of its value. With the loss L(a, b), −∂L/∂a is the force on the weight, ∂L/∂b the force
that drains the value, ∂²L/∂a∂b their coupling.
"""
