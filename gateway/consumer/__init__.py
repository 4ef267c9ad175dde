"""The reference consumer: what whoever hears the gateway must do to have everything once, in order, and to know it."""
