"""The rules, a file a group; `registry.built_in_rules` lists the groups."""
