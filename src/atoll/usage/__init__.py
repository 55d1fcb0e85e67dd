"""What is done and stored: counted, delivered, added up, priced and limited."""
