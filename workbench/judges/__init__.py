"""Who judges in people's place: scores by models, held against people's labels, and what people would say."""
