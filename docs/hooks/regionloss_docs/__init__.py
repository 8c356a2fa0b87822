"""What the site is made of: pages and parts of pages, made from the spec, the reference and the suite themselves."""
