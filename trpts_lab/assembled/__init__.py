"""A vision-language model put together from pre-trained parts, and compositions that it is asked
about."""
