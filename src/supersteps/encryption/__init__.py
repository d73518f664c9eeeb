"""Encryption of stored records: keys, envelopes, the encrypting storage."""
