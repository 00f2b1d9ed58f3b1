"""A client of an OpenAI-compatible server that loses no response.

It knows nothing of rows, prompts or jobs.

client              request → response: the journal first, then the endpoint, with retries
batch_api           the same by the OpenAI Batch API
endpoint            one call, and what its failures mean
structured_output   which form of structured output a server accepts
rate_limiter        requests and tokens a minute, pauses, back-off
budget              tokens, money and caps
journal             every completion on disk before it is used
response_parsing    the JSON in a response
chat_request        one call as data
"""
