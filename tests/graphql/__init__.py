"""GraphQL as a client meets it: over HTTP, with documents, and nothing of the schema's own code.

What is true of storage runs on both backends; what is true of the transport runs in memory.
"""
