"""The public benchmark of learning rates: what the diagnosis says of rates whose worth is known from final results."""
