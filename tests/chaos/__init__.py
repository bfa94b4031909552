"""The chaos campaign: services and broker are killed under load, then every record is accounted for (`make chaos`)."""
