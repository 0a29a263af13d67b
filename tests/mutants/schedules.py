"""Faults in noise schedules."""

from tests.mutants.mutant import mutants

SCHEDULES = (
    *mutants(
        "diffusion/core/schedules.py",
        "tests/core/test_schedules.py",
        (
            "np.linspace(beta_1, beta_T, _steps(T), dtype",
            "np.linspace(beta_1, beta_T, _steps(T), endpoint=False, dtype",
            "test_published_values",
            "the linear schedule stops a step before beta_T",
        ),
        (
            "np.cumprod(1.0 - beta)",
            "np.exp(-np.cumsum(beta))",
            "test_agrees_with_the_loop_over_betas",
            "alpha_bar of small betas",
        ),
        (
            "_steps(T), dtype=np.float64) ** 2)",
            "_steps(T), dtype=np.float64))",
            "test_published_values",
            "roots of the quadratic schedule are not squared",
        ),
        ("* np.pi / 2) ** 2, T)", "* np.pi / 2), T)", "test_published_values", "the cosine is not squared"),
        (
            "* np.pi / 2) ** 2, T)",
            "* np.pi / 2) ** 2, T, 0.9999)",
            "test_only_the_last_cosine_beta_is_clipped",
            "the last beta of the cosine schedule is limited to 0.9999",
        ),
        ("np.cos((u + s) / (1 + s)", "np.cos(u", "test_published_values", "the cosine schedule without its offset"),
        ("np.exp(-z)", "np.exp(z)", "test_agrees_with_the_loop_over_betas", "the logistic curve falls"),
        (
            "_steps(T), 0, -1",
            "_steps(T) + 1, 1, -1",
            "test_jsd_falls_linearly_to_nothing",
            "1 / (T - t + 2) in the schedule of Sohl-Dickstein",
        ),
        ("n = int(T * share)", "n = int(T * share) + 1", "test_published_values", "one step more of warm-up"),
        ("dtype=np.float64)[::-1]])", "dtype=np.float64)])", "test_geometric_sigma", "geometric noise levels fall"),
        (
            "sigma_T * np.sqrt(np.arange(_steps(T) + 1, dtype=np.float64) / T)",
            "sigma_T * (np.arange(_steps(T) + 1, dtype=np.float64) / T)",
            "test_constant_sigma_adds_equal_variance",
            "equal steps of sigma instead of sigma^2",
        ),
        (
            "return np.arange(_steps(T) + 1, dtype=np.float64) / T",
            "return np.arange(_steps(T) + 1, dtype=np.float64) / (T + 1)",
            "tests/core/test_rectified.py::test_no_signal_is_left",
            "the flow stops a step before pure noise",
        ),
    ),
)
