"""Every way a person can get it wrong, as tables of cases, one module a subject."""
