"""What everything stands on: types, errors, config, keys, seeds, devices. Knows nothing above."""
