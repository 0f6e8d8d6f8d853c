"""The pytest plugin of fairtest: fixtures `arms`, `finetune`, `fairness`, `fairtest_config`."""
