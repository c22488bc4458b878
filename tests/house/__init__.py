"""The rules of the house, each with a checker: layers, rooms, names, documents."""
