"""The only room that touches someone else's model: names, attaching, reading, editing, running from a site on."""
