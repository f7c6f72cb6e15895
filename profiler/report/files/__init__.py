"""Which files a study, its report and the test of formulas are published as."""
