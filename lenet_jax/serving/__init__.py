"""The page and the API: pictures come in over HTTP, the digits read in them go out."""
