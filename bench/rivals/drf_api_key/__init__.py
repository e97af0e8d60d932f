"""djangorestframework-api-key as its documentation sets it up, on what `startproject` gives."""
