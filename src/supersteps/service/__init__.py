"""Operations on stored runs for user interfaces; start with `Service`."""
