"""Other eyes for a VLM: those of another VLM as they are, or any vision encoder with a projector that is fitted."""
