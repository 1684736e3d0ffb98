"""Every claim of the paper that can be tested: claims.yaml says what is claimed, the modules judge it in our runs."""
