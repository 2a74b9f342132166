"""The paper's figures and tables, rebuilt from parameter files, each beside what the paper says of it: `reproduce`."""
