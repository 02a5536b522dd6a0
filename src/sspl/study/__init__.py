"""The label-efficiency study: methods x label counts x label subsets x protocols."""
