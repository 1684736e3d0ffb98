"""The paper's testable claims: claims.yaml states them, the modules judge them in our runs."""
