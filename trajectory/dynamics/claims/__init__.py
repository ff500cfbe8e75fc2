"""The paper's claims as code: a computation, limits and a verdict each."""
