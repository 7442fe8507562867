-- Views: each answers one question by name; charts and SQL users see the same numbers.
-- Rates are computed here, from stored counts. Intervals are 95 %.

-- 0.975 quantile of Student's t by its expansion around the normal one (Cornish-Fisher; 0.7 % low
-- at 3 degrees of freedom, better beyond). NULL below 2: an interval from two values says nothing.
CREATE MACRO t_975(df) AS CASE WHEN df >= 2 THEN
    1.959964 + 2.372271 / df + 2.822499 / (df * df) + 2.555850 / (df * df * df) END;

-- Half the interval of a mean by Student's t. NULL where all values agree: they show no spread to tell it by.
CREATE MACRO t_half(n, deviation) AS CASE WHEN deviation > 0 THEN
    t_975(n - 1) * deviation / sqrt(n) END;

-- The same of a mean over completions, whose groups need not be of one size: each group counts by its distance
-- from the mean, summed within it (the variance of a ratio). Of each group its size n and the total of its values.
CREATE MACRO grouped_half(n, total) AS t_half(count(n), count(n) * CASE WHEN
        sum(total * total) - 2 * sum(total) / sum(n) * sum(total * n) + (sum(total) / sum(n)) * (sum(total) / sum(n)) * sum(n * n)
        > 1e-12 * sum(total * total) THEN sqrt((
        sum(total * total) - 2 * sum(total) / sum(n) * sum(total * n) + (sum(total) / sum(n)) * (sum(total) / sum(n)) * sum(n * n)
        ) / (count(n) - 1)) END / sum(n));

-- Sorting key of a task id, which is text: numbers within it count as numbers, so that 9 comes before 10 and
-- mine/9 before mine/10.
CREATE MACRO task_order(id) AS array_to_string(list_transform(regexp_extract_all(id, '[0-9]+|[^0-9]+'),
    lambda part: CASE WHEN regexp_matches(part, '^[0-9]') THEN lpad(part, greatest(19, length(part))::INTEGER, '0')
                      ELSE part END), '');

-- Ends of Wilson's interval of a rate over n problems; at 0 and 1 it still has a width.
CREATE MACRO wilson_low(rate, n) AS least(rate, greatest(0,
    (rate + 1.920729 / n - 1.959964 * sqrt(rate * (1 - rate) / n + 0.960365 / (n * n))) / (1 + 3.841459 / n)));
CREATE MACRO wilson_high(rate, n) AS greatest(rate, least(1,
    (rate + 1.920729 / n + 1.959964 * sqrt(rate * (1 - rate) / n + 0.960365 / (n * n))) / (1 + 3.841459 / n)));

-- How many zeros and ones n values in 0..1 are worth, by their sum and their sum of squares, a 0 and a 1 added:
-- evaluator.statistics.stats.wilson_of_mean. A single value has no interval but 0 to 1.
CREATE MACRO worth(n, total, squares) AS CASE WHEN n > 1 THEN
    n * (total + 1) / (n + 2) * (1 - (total + 1) / (n + 2))
      / ((squares + 1) / (n + 2) - (total + 1) / (n + 2) * (total + 1) / (n + 2)) ELSE 1e-9 END;

-- mean@n of each evaluation that sampled several completions a problem: the share of completions that pass.
CREATE VIEW mean_at_n AS
WITH by_task AS (
    SELECT run_id, eval_id, task_id, count(*) AS n, count(*) FILTER (passed) AS c, c / n AS share
    FROM eval_results GROUP BY ALL),
summed AS (
    SELECT run_id, eval_id, min(n) AS n_samples, max(n) AS most_samples, count(*) AS n_problems,
           sum(n)::BIGINT AS n_answers, sum(c)::BIGINT AS n_passed, avg(share) AS mean_at_n,
           worth(count(*), sum(share), sum(share * share)) AS worth,
           sqrt(sum(share * (1 - share) / nullif(n - 1, 0))) / count(*) AS sampling_error
    FROM by_task GROUP BY ALL)
SELECT s.run_id, s.eval_id, e.step, n_samples, n_problems, n_answers, n_passed, mean_at_n,
       wilson_low(mean_at_n, worth) AS interval_low, wilson_high(mean_at_n, worth) AS interval_high,
       sampling_error
FROM summed s LEFT JOIN evals e USING (run_id, eval_id)
WHERE most_samples > 1;
COMMENT ON VIEW mean_at_n IS 'share of sampled completions that pass, of each evaluation with several a problem';
COMMENT ON COLUMN mean_at_n.run_id IS 'key into runs';
COMMENT ON COLUMN mean_at_n.eval_id IS 'evaluation within the run';
COMMENT ON COLUMN mean_at_n.step IS 'optimizer step of the policy; NULL outside training';
COMMENT ON COLUMN mean_at_n.n_samples IS 'completions a problem: the least over its problems';
COMMENT ON COLUMN mean_at_n.n_problems IS 'problems evaluated';
COMMENT ON COLUMN mean_at_n.n_answers IS 'completions of all problems';
COMMENT ON COLUMN mean_at_n.n_passed IS 'of these those that pass every assert';
COMMENT ON COLUMN mean_at_n.mean_at_n IS 'mean over problems of the share of completions that pass, 0..1';
COMMENT ON COLUMN mean_at_n.interval_low IS 'lower end of the 95 % interval over problems, 0..1: Wilson, by how many zeros and ones the shares are worth';
COMMENT ON COLUMN mean_at_n.interval_high IS 'upper end of that interval, 0..1';
COMMENT ON COLUMN mean_at_n.sampling_error IS 'standard error that sampling these problems again would show, 0..1: what two checkpoints on the same problems differ by';

-- pass@1 of every evaluation, with what was evaluated. A run of kind eval whose policy another run trained
-- has that run's algorithm and seed: the parent that it names, or the run in whose folder its adapter lies.
-- Where several completions a problem were sampled, pass@1 is mean@n, and no problem is solved or not: k is NULL.
CREATE VIEW eval_curve AS
WITH names AS (
    SELECT run_id, parent_run_id AS name, 0 AS place FROM runs UNION ALL
    SELECT run_id, unnest(string_split(adapter, '/')), 1 FROM runs WHERE algorithm IS NULL),
trained AS (
    SELECT n.run_id, min_by(p, n.place) AS policy FROM names n JOIN runs p ON p.run_id = n.name
    WHERE n.run_id <> n.name GROUP BY n.run_id)
SELECT r.run_id, coalesce(t.policy.run_id, r.run_id) AS policy_run_id, e.eval_id, r.label,
       coalesce(t.policy.algorithm, r.algorithm, 'base') AS algorithm,
       coalesce(t.policy.seed, r.seed) AS seed, r.model, e.dataset, e.dataset_sha256, e.protocol, e.decoding, e.step,
       e.n, CASE WHEN m.n_answers IS NULL THEN e.k END AS k,
       coalesce(m.n_answers, e.n) AS n_answers, coalesce(m.n_passed, e.k) AS n_passed,
       coalesce(m.mean_at_n, e.k / nullif(e.n, 0)) AS pass_at_1,
       coalesce(m.interval_low, e.interval_low) AS interval_low,
       coalesce(m.interval_high, e.interval_high) AS interval_high, e.wall_s, r.created_at
FROM evals e
JOIN runs r USING (run_id)
LEFT JOIN mean_at_n m USING (run_id, eval_id)
LEFT JOIN trained t ON t.run_id = r.run_id;
COMMENT ON VIEW eval_curve IS 'pass@1 of every evaluation, over steps';
COMMENT ON COLUMN eval_curve.run_id IS 'run that holds the evaluation';
COMMENT ON COLUMN eval_curve.policy_run_id IS 'run that trained the policy; the run itself if none';
COMMENT ON COLUMN eval_curve.eval_id IS 'evaluation within the run';
COMMENT ON COLUMN eval_curve.label IS 'what a person calls the run';
COMMENT ON COLUMN eval_curve.algorithm IS 'as in runs; base where nothing was trained';
COMMENT ON COLUMN eval_curve.seed IS 'seed of the policy''s run';
COMMENT ON COLUMN eval_curve.model IS 'model name or folder';
COMMENT ON COLUMN eval_curve.dataset IS 'problem set';
COMMENT ON COLUMN eval_curve.dataset_sha256 IS 'of its content; NULL where the evaluation does not tell';
COMMENT ON COLUMN eval_curve.protocol IS 'prompt form';
COMMENT ON COLUMN eval_curve.decoding IS 'greedy or the sampling parameters';
COMMENT ON COLUMN eval_curve.step IS 'optimizer step of the policy; NULL outside training';
COMMENT ON COLUMN eval_curve.n IS 'problems evaluated';
COMMENT ON COLUMN eval_curve.k IS 'problems solved; NULL where several completions a problem were sampled';
COMMENT ON COLUMN eval_curve.n_answers IS 'completions of all problems; n where there is one each';
COMMENT ON COLUMN eval_curve.n_passed IS 'of these those that pass every assert; k where there is one each';
COMMENT ON COLUMN eval_curve.pass_at_1 IS 'k / n, 0..1; of several completions a problem mean@n, the mean over problems of the share that passes';
COMMENT ON COLUMN eval_curve.interval_low IS 'lower end of its 95 % interval, 0..1: Wilson, of mean@n as in mean_at_n';
COMMENT ON COLUMN eval_curve.interval_high IS 'upper end of that interval, 0..1';
COMMENT ON COLUMN eval_curve.wall_s IS 'wall-clock time, seconds';
COMMENT ON COLUMN eval_curve.created_at IS 'UTC start of the run, ISO 8601';

-- The last evaluation of each run on each problem set, best first.
CREATE VIEW leaderboard AS
SELECT label, algorithm, model, seed, step, dataset, protocol, decoding, k, n, n_passed, n_answers,
       pass_at_1, interval_low, interval_high, run_id, eval_id
FROM eval_curve
QUALIFY row_number() OVER (
    PARTITION BY run_id, dataset, protocol, decoding
    ORDER BY step DESC NULLS FIRST, eval_id DESC) = 1
ORDER BY dataset, protocol, pass_at_1 DESC, label;
COMMENT ON VIEW leaderboard IS 'last evaluation of each run on each problem set, best first';
COMMENT ON COLUMN leaderboard.label IS 'what a person calls the run';
COMMENT ON COLUMN leaderboard.algorithm IS 'as in runs; base where nothing was trained';
COMMENT ON COLUMN leaderboard.model IS 'model name or folder';
COMMENT ON COLUMN leaderboard.seed IS 'seed of the policy''s run';
COMMENT ON COLUMN leaderboard.step IS 'optimizer step of the policy; NULL outside training';
COMMENT ON COLUMN leaderboard.dataset IS 'problem set';
COMMENT ON COLUMN leaderboard.protocol IS 'prompt form';
COMMENT ON COLUMN leaderboard.decoding IS 'greedy or the sampling parameters';
COMMENT ON COLUMN leaderboard.k IS 'problems solved; NULL where several completions a problem were sampled';
COMMENT ON COLUMN leaderboard.n_answers IS 'completions of all problems; n where there is one each';
COMMENT ON COLUMN leaderboard.n_passed IS 'of these those that pass every assert; k where there is one each';
COMMENT ON COLUMN leaderboard.n IS 'problems evaluated';
COMMENT ON COLUMN leaderboard.pass_at_1 IS 'k / n, 0..1; of several completions a problem mean@n, the mean over problems of the share that passes';
COMMENT ON COLUMN leaderboard.interval_low IS 'lower end of its 95 % interval, 0..1: Wilson, of mean@n as in mean_at_n';
COMMENT ON COLUMN leaderboard.interval_high IS 'upper end of that interval, 0..1';
COMMENT ON COLUMN leaderboard.run_id IS 'run that holds the evaluation';
COMMENT ON COLUMN leaderboard.eval_id IS 'evaluation within the run';

-- Training reward by step. A group's completions answer one problem, so they are not independent:
-- the interval is that of the mean over completions, by how their groups differ.
CREATE VIEW reward_curve AS
WITH by_group AS (
    SELECT run_id, step, group_index, count(*) AS n, sum(reward) AS reward_sum,
           nullif(count(reward), 0) AS n_rewarded, sum(correctness) AS correctness_sum,
           count(correctness) AS n_correctness, sum(format_score) AS format_sum, count(format_score) AS n_format,
           count(*) FILTER (n_passed = n_asserts) AS n_solved, count(n_passed) AS n_graded,
           count(*) FILTER (truncated) AS n_truncated, count(truncated) AS n_measured,
           sum(n_completion_tokens) AS tokens, count(n_completion_tokens) AS n_counted, max(reward) = min(reward) AS flat
    FROM rollouts GROUP BY ALL)
SELECT run_id, step, sum(n) AS n_completions, count(*) AS n_groups,
       sum(reward_sum) / sum(n_rewarded) AS reward_mean,
       sum(reward_sum) / sum(n_rewarded) - grouped_half(n_rewarded, reward_sum) AS interval_low,
       sum(reward_sum) / sum(n_rewarded) + grouped_half(n_rewarded, reward_sum) AS interval_high,
       sum(correctness_sum) / sum(n_correctness) AS correctness_mean,
       sum(format_sum) / sum(n_format) AS format_mean,
       sum(n_solved) / nullif(sum(n_graded), 0) AS solved_fraction,
       sum(n_truncated) / nullif(sum(n_measured), 0) AS truncated_fraction,
       sum(tokens) / sum(n_counted) AS completion_tokens_mean,
       count(*) FILTER (flat) / nullif(count(flat), 0) AS flat_group_fraction
FROM by_group GROUP BY run_id, step;
COMMENT ON VIEW reward_curve IS 'training reward and its parts by step, from the stored completions';
COMMENT ON COLUMN reward_curve.run_id IS 'key into runs';
COMMENT ON COLUMN reward_curve.step IS 'optimizer step, from 1';
COMMENT ON COLUMN reward_curve.n_completions IS 'completions of the step';
COMMENT ON COLUMN reward_curve.n_groups IS 'problems of the step';
COMMENT ON COLUMN reward_curve.reward_mean IS 'mean reward of the completions';
COMMENT ON COLUMN reward_curve.interval_low IS 'lower end of its 95 % interval, by how the groups differ; NULL below three groups or where all agree';
COMMENT ON COLUMN reward_curve.interval_high IS 'upper end of that interval';
COMMENT ON COLUMN reward_curve.correctness_mean IS 'mean fraction of asserts passed, 0..1';
COMMENT ON COLUMN reward_curve.format_mean IS 'mean format score, 0..1';
COMMENT ON COLUMN reward_curve.solved_fraction IS 'completions that pass every assert, 0..1';
COMMENT ON COLUMN reward_curve.truncated_fraction IS 'completions cut by the length limit, 0..1';
COMMENT ON COLUMN reward_curve.completion_tokens_mean IS 'mean length of a completion, tokens';
COMMENT ON COLUMN reward_curve.flat_group_fraction IS 'groups of equal rewards, which teach GRPO nothing, 0..1';

-- Unbiased pass@k of each evaluation: mean over problems of 1 - C(n-c, k) / C(n, k).
-- Problems with the same counts have the same estimate, and that of k follows from that of k - 1 by one
-- factor: the work grows with the number of different counts, not with the completions.
-- It holds for independent tries. Where every problem with fewer tries than another ends with its only pass, trying
-- ended with the pass, as in `solve`: such an evaluation has no row.
CREATE VIEW pass_at_k AS
WITH by_task AS (
    SELECT run_id, eval_id, task_id, count(*) AS n, count(*) FILTER (passed) AS c,
           c = 1 AND arg_max(passed, sample_index) AS ends_with_pass
    FROM eval_results GROUP BY ALL),
smallest AS (
    SELECT run_id, eval_id, min(n) AS n_samples FROM by_task GROUP BY ALL
    HAVING min(n) = max(n) OR min(n) FILTER (NOT ends_with_pass) < max(n)),
alike AS (
    SELECT run_id, eval_id, n_samples, n, c, count(*) AS n_problems
    FROM by_task JOIN smallest USING (run_id, eval_id) GROUP BY ALL),
ks AS (SELECT n, c, unnest(generate_series(1, n)) AS k FROM (SELECT DISTINCT n, c FROM alike)),
estimates AS (
    SELECT n, c, k, 1 - product(greatest(n - c - k + 1, 0) / (n - k + 1))
        OVER (PARTITION BY n, c ORDER BY k) AS estimate
    FROM ks)
SELECT * EXCLUDE (total, squares), wilson_low(pass_at_k, worth(n_problems, total, squares)) AS interval_low,
       wilson_high(pass_at_k, worth(n_problems, total, squares)) AS interval_high
FROM (
    SELECT a.run_id, a.eval_id, e.step, s.k, sum(a.n_problems)::BIGINT AS n_problems, a.n_samples,
           sum(a.n_problems * s.estimate) AS total, sum(a.n_problems * s.estimate * s.estimate) AS squares,
           total / sum(a.n_problems) AS pass_at_k
    FROM alike a
    JOIN estimates s USING (n, c)
    LEFT JOIN evals e USING (run_id, eval_id)
    WHERE s.k <= a.n_samples
    GROUP BY ALL);
COMMENT ON VIEW pass_at_k IS 'unbiased pass@k of each evaluation; none of one that ended a problem''s tries with its first pass';
COMMENT ON COLUMN pass_at_k.run_id IS 'key into runs';
COMMENT ON COLUMN pass_at_k.eval_id IS 'evaluation within the run';
COMMENT ON COLUMN pass_at_k.step IS 'optimizer step of the policy; NULL outside training';
COMMENT ON COLUMN pass_at_k.k IS 'tries allowed, 1..n_samples';
COMMENT ON COLUMN pass_at_k.n_problems IS 'problems evaluated';
COMMENT ON COLUMN pass_at_k.n_samples IS 'completions a problem: the least over its problems';
COMMENT ON COLUMN pass_at_k.pass_at_k IS 'probability that one of k completions passes, 0..1';
COMMENT ON COLUMN pass_at_k.interval_low IS 'lower end of its 95 % interval over problems: Wilson, by how many zeros and ones the values are worth';
COMMENT ON COLUMN pass_at_k.interval_high IS 'upper end of that interval';

-- Problems that one evaluation solves and another does not; of several completions a problem none can be told.
-- Filter on run_a, eval_a, run_b, eval_b; the problem sets, prompt forms and decoding agree.
CREATE VIEW flips AS
SELECT a.run_id AS run_a, a.eval_id AS eval_a, b.run_id AS run_b, b.eval_id AS eval_b,
       a.task_id, a.passed AS passed_a, b.passed AS passed_b,
       CASE WHEN b.passed THEN 'gained' ELSE 'lost' END AS direction,
       a.outcome AS outcome_a, b.outcome AS outcome_b
FROM eval_results a
JOIN evals ea ON ea.run_id = a.run_id AND ea.eval_id = a.eval_id
JOIN eval_results b ON b.task_id = a.task_id AND b.sample_index = 0 AND b.passed <> a.passed
JOIN evals eb ON eb.run_id = b.run_id AND eb.eval_id = b.eval_id
             AND eb.dataset = ea.dataset AND eb.protocol = ea.protocol AND eb.decoding = ea.decoding
             AND coalesce(eb.dataset_sha256 = ea.dataset_sha256, true)
ANTI JOIN mean_at_n ma ON ma.run_id = a.run_id AND ma.eval_id = a.eval_id
ANTI JOIN mean_at_n mb ON mb.run_id = b.run_id AND mb.eval_id = b.eval_id
WHERE a.sample_index = 0;
COMMENT ON VIEW flips IS 'problems on which two evaluations of one completion a problem differ; filter on run_a, eval_a, run_b, eval_b';
COMMENT ON COLUMN flips.run_a IS 'run of the first evaluation';
COMMENT ON COLUMN flips.eval_a IS 'first evaluation';
COMMENT ON COLUMN flips.run_b IS 'run of the second evaluation';
COMMENT ON COLUMN flips.eval_b IS 'second evaluation';
COMMENT ON COLUMN flips.task_id IS 'id of the problem';
COMMENT ON COLUMN flips.passed_a IS 'whether the first evaluation solves it';
COMMENT ON COLUMN flips.passed_b IS 'whether the second evaluation solves it';
COMMENT ON COLUMN flips.direction IS 'gained or lost, from the first to the second';
COMMENT ON COLUMN flips.outcome_a IS 'failure class in the first';
COMMENT ON COLUMN flips.outcome_b IS 'failure class in the second';

-- How completions end, in training by step and in evaluations.
CREATE VIEW failure_classes AS
WITH outcomes AS (
    SELECT run_id, 'rollouts' AS source, NULL AS eval_id, step, outcome, count(*) AS n
    FROM rollouts GROUP BY ALL
    UNION ALL
    SELECT r.run_id, 'eval_results', r.eval_id, e.step, r.outcome, count(*)
    FROM eval_results r LEFT JOIN evals e USING (run_id, eval_id) GROUP BY ALL)
SELECT *, n / sum(n) OVER (PARTITION BY run_id, source, eval_id, step) AS fraction
FROM outcomes ORDER BY run_id, source, eval_id, step, n DESC, outcome;
COMMENT ON VIEW failure_classes IS 'how completions end, by step and by evaluation';
COMMENT ON COLUMN failure_classes.run_id IS 'key into runs';
COMMENT ON COLUMN failure_classes.source IS 'rollouts or eval_results';
COMMENT ON COLUMN failure_classes.eval_id IS 'evaluation; NULL for rollouts';
COMMENT ON COLUMN failure_classes.step IS 'optimizer step; NULL outside training';
COMMENT ON COLUMN failure_classes.outcome IS 'passed, wrong_answer, an exception''s name, no_code, timeout, ...';
COMMENT ON COLUMN failure_classes.n IS 'completions that ended so';
COMMENT ON COLUMN failure_classes.fraction IS 'share of the step''s or evaluation''s completions, 0..1';

-- One cell a problem and evaluation.
CREATE VIEW solve_matrix AS
SELECT r.run_id, r.eval_id, e.step, r.task_id, count(*) AS n_samples,
       count(*) FILTER (r.passed) AS n_solved,
       count(*) FILTER (r.passed) / count(*) AS solved_fraction,
       max(r.n_passed / nullif(r.n_asserts, 0)) AS best_assert_fraction
FROM eval_results r LEFT JOIN evals e USING (run_id, eval_id)
GROUP BY ALL;
COMMENT ON VIEW solve_matrix IS 'which evaluation solves which problem';
COMMENT ON COLUMN solve_matrix.run_id IS 'key into runs';
COMMENT ON COLUMN solve_matrix.eval_id IS 'evaluation within the run';
COMMENT ON COLUMN solve_matrix.step IS 'optimizer step of the policy; NULL outside training';
COMMENT ON COLUMN solve_matrix.task_id IS 'id of the problem';
COMMENT ON COLUMN solve_matrix.n_samples IS 'completions of the problem';
COMMENT ON COLUMN solve_matrix.n_solved IS 'completions that pass every assert';
COMMENT ON COLUMN solve_matrix.solved_fraction IS 'n_solved / n_samples, 0..1';
COMMENT ON COLUMN solve_matrix.best_assert_fraction IS 'most asserts that one completion passes, 0..1';

-- Each layer of the audit: does the training code agree with its independent derivation?
CREATE VIEW audit_summary AS
SELECT run_id, layer, count(*) AS n_checks, count(*) FILTER (passed) AS n_passed,
       max(delta) AS delta_max, arg_max(step, delta) AS step_of_max, min(threshold) AS threshold,
       bool_and(passed) AS passed
FROM audits GROUP BY run_id, layer;
COMMENT ON VIEW audit_summary IS 'largest difference of each audit layer';
COMMENT ON COLUMN audit_summary.run_id IS 'key into runs';
COMMENT ON COLUMN audit_summary.layer IS 'what was compared';
COMMENT ON COLUMN audit_summary.n_checks IS 'comparisons made';
COMMENT ON COLUMN audit_summary.n_passed IS 'comparisons within the threshold';
COMMENT ON COLUMN audit_summary.delta_max IS 'largest absolute difference, unit of the layer';
COMMENT ON COLUMN audit_summary.step_of_max IS 'optimizer step where it was found';
COMMENT ON COLUMN audit_summary.threshold IS 'largest difference that passes';
COMMENT ON COLUMN audit_summary.passed IS 'whether every comparison passed';

-- What the SDPO teacher had to go on. An imported log does not tell of a teacher.
CREATE VIEW teacher_coverage AS
SELECT run_id, step, count(*) AS n_completions,
       count(teacher_prompt) / count(*) AS coverage_fraction,
       count(demonstration_member) / count(*) AS demonstration_fraction,
       count(*) FILTER (feedback_used) / count(*) AS feedback_used_fraction,
       count(feedback) / count(*) AS feedback_fraction
FROM rollouts WHERE outcome <> 'imported' GROUP BY run_id, step ORDER BY run_id, step;
COMMENT ON VIEW teacher_coverage IS 'share of completions whose teacher had something to show, by step; without imported ones, which do not tell';
COMMENT ON COLUMN teacher_coverage.run_id IS 'key into runs';
COMMENT ON COLUMN teacher_coverage.step IS 'optimizer step, from 1';
COMMENT ON COLUMN teacher_coverage.n_completions IS 'completions of the step';
COMMENT ON COLUMN teacher_coverage.coverage_fraction IS 'completions with a teacher prompt, 0..1';
COMMENT ON COLUMN teacher_coverage.demonstration_fraction IS 'completions whose teacher saw a peer''s solution, 0..1';
COMMENT ON COLUMN teacher_coverage.feedback_used_fraction IS 'completions whose teacher saw the feedback, 0..1';
COMMENT ON COLUMN teacher_coverage.feedback_fraction IS 'completions that got feedback, 0..1';

-- What the teacher of each rollout was shown.
CREATE VIEW shown_to_teacher AS
WITH shown AS (
    -- a run from before the context was recorded says it by its configuration
    SELECT r.*, coalesce(teacher_context,
                         CASE WHEN demonstration_member IS NOT NULL THEN 'peer'
                              WHEN config ->> '$.bench.teacher_context' IN ('nothing', 'reference')
                              THEN config ->> '$.bench.teacher_context' ELSE 'feedback' END) AS context
    FROM rollouts r JOIN runs USING (run_id) WHERE outcome <> 'imported')
SELECT run_id, step, group_index, member_index,
       CASE WHEN teacher_prompt IS NULL THEN 'none'
            WHEN context = 'nothing' THEN 'own prompt'
            WHEN context = 'feedback' THEN 'feedback'
            ELSE if(context = 'peer', 'demonstration', context) || if(feedback_used, ' + feedback', '')
       END AS teacher_kind,
       reward
FROM shown;
COMMENT ON VIEW shown_to_teacher IS 'what the teacher of each rollout was shown; without imported ones, which do not tell';
COMMENT ON COLUMN shown_to_teacher.run_id IS 'key into runs';
COMMENT ON COLUMN shown_to_teacher.step IS 'optimizer step, from 1';
COMMENT ON COLUMN shown_to_teacher.group_index IS 'problem among those sampled in the step, from 0';
COMMENT ON COLUMN shown_to_teacher.member_index IS 'completion within its group, 0..G-1';
COMMENT ON COLUMN shown_to_teacher.teacher_kind IS 'none (no teacher prompt), own prompt, feedback, demonstration (a peer''s solution) or reference, the last two also + feedback';
COMMENT ON COLUMN shown_to_teacher.reward IS 'weighted sum of the parts';

-- Reward and signal by what the teacher was shown.
CREATE VIEW reward_by_teacher_kind AS
SELECT run_id, step, teacher_kind, count(*) AS n, avg(reward) AS reward_mean
FROM shown_to_teacher GROUP BY ALL;
COMMENT ON VIEW reward_by_teacher_kind IS 'reward by what the teacher was shown';
COMMENT ON COLUMN reward_by_teacher_kind.run_id IS 'key into runs';
COMMENT ON COLUMN reward_by_teacher_kind.step IS 'optimizer step, from 1';
COMMENT ON COLUMN reward_by_teacher_kind.teacher_kind IS 'as in shown_to_teacher';
COMMENT ON COLUMN reward_by_teacher_kind.n IS 'completions';
COMMENT ON COLUMN reward_by_teacher_kind.reward_mean IS 'mean reward';

-- What an untrained policy gains where it is shown something beside the problem: each row is a paired
-- difference from being shown nothing, over the problems that have both.
CREATE VIEW teacher_gap AS
WITH pairs AS (
    SELECT a.run_id, 'pass_rate' AS measure, a.shown, a.task_id,
           n.passed::INT::DOUBLE AS nothing, a.passed::INT::DOUBLE AS value
    FROM gap_answers a
    JOIN gap_answers n ON n.run_id = a.run_id AND n.task_id = a.task_id
                      AND n.shown = 'nothing' AND n.greedy
    WHERE a.greedy
    UNION ALL
    SELECT a.run_id, CASE WHEN a.passed THEN 'passing_logprob' ELSE 'failing_logprob' END,
           a.shown, a.task_id, avg(n.mean_logprob), avg(a.mean_logprob)
    FROM gap_logprobs a
    JOIN gap_logprobs n ON n.run_id = a.run_id AND n.task_id = a.task_id
                       AND n.sample_index = a.sample_index AND n.shown = 'nothing'
    GROUP BY ALL),
sums AS (
    SELECT run_id, measure, shown, count(*) AS n, avg(nothing) AS nothing, avg(value) AS value,
           avg(value - nothing) AS difference, stddev_samp(value - nothing) AS deviation,
           (1 + count(*) FILTER (value > nothing)) / (count(*) + 2) AS up,
           (1 + count(*) FILTER (value < nothing)) / (count(*) + 2) AS down
    FROM pairs GROUP BY ALL),
halves AS (
    SELECT *, CASE WHEN measure = 'pass_rate' THEN up - down ELSE difference END AS middle,
           CASE WHEN measure = 'pass_rate'
                THEN 1.959964 * sqrt((up + down - (up - down) * (up - down)) / (n + 2))
                ELSE t_half(n, deviation) END AS half
    FROM sums)
SELECT s.run_id, r.model, s.measure, s.shown, s.n, s.nothing, s.value, s.difference,
       CASE WHEN shown = 'nothing' THEN NULL WHEN measure = 'pass_rate'
            THEN greatest(middle - half, -1) ELSE middle - half END AS interval_low,
       CASE WHEN shown = 'nothing' THEN NULL WHEN measure = 'pass_rate'
            THEN least(middle + half, 1) ELSE middle + half END AS interval_high
FROM halves s JOIN runs r USING (run_id);
COMMENT ON VIEW teacher_gap IS 'what an untrained policy gains where something is shown beside the problem';
COMMENT ON COLUMN teacher_gap.run_id IS 'key into runs';
COMMENT ON COLUMN teacher_gap.model IS 'model name or folder';
COMMENT ON COLUMN teacher_gap.measure IS 'pass_rate of greedy answers; passing_logprob or failing_logprob of its own sampled ones';
COMMENT ON COLUMN teacher_gap.shown IS 'nothing, peer, reference, feedback, wrong or other';
COMMENT ON COLUMN teacher_gap.n IS 'problems that have both';
COMMENT ON COLUMN teacher_gap.nothing IS 'the same problems when nothing is shown: rate 0..1, or mean log p, nats';
COMMENT ON COLUMN teacher_gap.value IS 'when it is shown: rate 0..1, or mean log p of a token, nats';
COMMENT ON COLUMN teacher_gap.difference IS 'value - nothing, paired by problem';
COMMENT ON COLUMN teacher_gap.interval_low IS 'lower end of the 95 % interval of the difference: adjusted Wald for rates, Student''s t over problems for log p, NULL below three or where all agree';
COMMENT ON COLUMN teacher_gap.interval_high IS 'upper end of that interval';

-- Where a step's time goes: metrics named time/<phase>_s.
CREATE VIEW step_time_split AS
SELECT run_id, step, regexp_extract(name, '^time/(.*)_s$', 1) AS phase, value AS seconds,
       value / nullif(sum(value) OVER (PARTITION BY run_id, step), 0) AS fraction
FROM metrics WHERE regexp_matches(name, '^time/.*_s$') AND isfinite(value);
COMMENT ON VIEW step_time_split IS 'where the time of a step goes: metrics named time/<phase>_s';
COMMENT ON COLUMN step_time_split.run_id IS 'key into runs';
COMMENT ON COLUMN step_time_split.step IS 'optimizer step, from 1';
COMMENT ON COLUMN step_time_split.phase IS 'part of the step, e.g. sample, grade, teacher, update';
COMMENT ON COLUMN step_time_split.seconds IS 'wall-clock time, seconds';
COMMENT ON COLUMN step_time_split.fraction IS 'share of the step''s measured time, 0..1';

-- Cost of a sandboxed execution, by run.
CREATE VIEW sandbox_latency AS
SELECT run_id, count(*) AS n, quantile_cont(wall_ms, 0.5) AS wall_ms_p50,
       quantile_cont(wall_ms, 0.95) AS wall_ms_p95, max(wall_ms) AS wall_ms_max,
       sum(cpu_ms) / 1000 AS cpu_s, max(peak_memory_bytes) AS peak_memory_bytes
FROM executions GROUP BY run_id;
COMMENT ON VIEW sandbox_latency IS 'cost of a sandboxed execution, by run';
COMMENT ON COLUMN sandbox_latency.run_id IS 'key into runs';
COMMENT ON COLUMN sandbox_latency.n IS 'executions';
COMMENT ON COLUMN sandbox_latency.wall_ms_p50 IS 'median wall-clock time, milliseconds';
COMMENT ON COLUMN sandbox_latency.wall_ms_p95 IS '95th percentile of wall-clock time, milliseconds';
COMMENT ON COLUMN sandbox_latency.wall_ms_max IS 'longest wall-clock time, milliseconds';
COMMENT ON COLUMN sandbox_latency.cpu_s IS 'CPU time of all executions, seconds';
COMMENT ON COLUMN sandbox_latency.peak_memory_bytes IS 'largest resident memory, bytes';

-- Rewarded completions whose program looks like an attempt on the grader. A suspicion, not a verdict: it was
-- formed where the row was written or read (`analysis.reward_hacking.suspects`).
CREATE VIEW reward_hacking_suspects AS
SELECT run_id, step, task_id, execution_id, reward, n_passed, n_asserts, suspicion AS reasons, code
FROM rollouts WHERE suspicion <> '';
COMMENT ON VIEW reward_hacking_suspects IS 'rewarded completions whose program looks like an attempt on the grader';
COMMENT ON COLUMN reward_hacking_suspects.run_id IS 'key into runs';
COMMENT ON COLUMN reward_hacking_suspects.step IS 'optimizer step, from 1';
COMMENT ON COLUMN reward_hacking_suspects.task_id IS 'id of the problem';
COMMENT ON COLUMN reward_hacking_suspects.execution_id IS 'key into executions and test_results';
COMMENT ON COLUMN reward_hacking_suspects.reward IS 'reward it got';
COMMENT ON COLUMN reward_hacking_suspects.n_passed IS 'asserts passed';
COMMENT ON COLUMN reward_hacking_suspects.n_asserts IS 'asserts of the problem';
COMMENT ON COLUMN reward_hacking_suspects.reasons IS 'why it is listed: looks the asserts up, returns a constant, gives an argument back, ends the process, ...';
COMMENT ON COLUMN reward_hacking_suspects.code IS 'its program';

-- One line a run: state, progress, headline.
CREATE VIEW run_overview AS
WITH last_state AS (
    -- Whole rows: arg_max of a column passes over NULLs and would show an earlier attempt's error.
    SELECT run_id, max(attempt) + 1 AS n_attempts, arg_max(s, attempt) AS last
    FROM run_states s GROUP BY run_id),
progress AS (
    SELECT run_id, max(step) AS last_step, arg_max(value, step) FILTER (name = 'reward') AS last_reward
    FROM metrics GROUP BY run_id),
sampled AS (SELECT run_id, count(*) AS n_rollouts, max(step) AS last_step FROM rollouts GROUP BY run_id),
headline AS (
    -- One evaluation: of two at one step the greedy one, whose name is the shorter.
    SELECT run_id, arg_max(e, (coalesce(step, 9223372036854775807), -length(eval_id), eval_id)) AS last
    FROM eval_curve e GROUP BY run_id)
SELECT r.run_id, r.kind, r.algorithm, r.label, r.seed, r.model, r.dataset, s.last.state AS state, s.n_attempts,
       greatest(p.last_step, c.last_step) AS last_step,
       CASE WHEN try_cast(r.config ->> '$.training.max_steps' AS BIGINT) > 0
            THEN try_cast(r.config ->> '$.training.max_steps' AS BIGINT) END AS planned_steps,
       coalesce(c.n_rollouts, 0) AS n_rollouts, p.last_reward,
       h.last.k AS k, h.last.n AS n, h.last.n_passed AS n_passed, h.last.n_answers AS n_answers,
       h.last.pass_at_1 AS pass_at_1, r.created_at,
       s.last.changed_at AS state_at, s.last.error AS error
FROM runs r
LEFT JOIN last_state s USING (run_id)
LEFT JOIN progress p USING (run_id)
LEFT JOIN sampled c USING (run_id)
LEFT JOIN headline h USING (run_id)
ORDER BY r.sequence NULLS FIRST, r.created_at, r.run_id;
COMMENT ON VIEW run_overview IS 'state, progress and headline of each run';
COMMENT ON COLUMN run_overview.run_id IS 'unique name of the run';
COMMENT ON COLUMN run_overview.kind IS 'train or eval';
COMMENT ON COLUMN run_overview.algorithm IS 'as in runs; NULL for an evaluation';
COMMENT ON COLUMN run_overview.label IS 'what a person calls the run';
COMMENT ON COLUMN run_overview.seed IS 'seed of sampling, data order and initialisation';
COMMENT ON COLUMN run_overview.model IS 'model name or folder';
COMMENT ON COLUMN run_overview.dataset IS 'problem set';
COMMENT ON COLUMN run_overview.state IS 'last recorded state; a killed run still says running';
COMMENT ON COLUMN run_overview.n_attempts IS 'processes that wrote it';
COMMENT ON COLUMN run_overview.last_step IS 'last optimizer step with rows; NULL if none';
COMMENT ON COLUMN run_overview.planned_steps IS 'optimizer steps that the configuration asks for; NULL where it names epochs';
COMMENT ON COLUMN run_overview.last_reward IS 'mean reward of the last step, points; NULL outside training';
COMMENT ON COLUMN run_overview.n_rollouts IS 'completions sampled in training';
COMMENT ON COLUMN run_overview.k IS 'problems solved in the last evaluation; NULL if none, or where several completions a problem were sampled';
COMMENT ON COLUMN run_overview.n IS 'problems of the last evaluation; NULL if none';
COMMENT ON COLUMN run_overview.n_passed IS 'its completions that pass every assert; NULL if none';
COMMENT ON COLUMN run_overview.n_answers IS 'its completions; n where there is one a problem';
COMMENT ON COLUMN run_overview.pass_at_1 IS 'as in eval_curve, 0..1';
COMMENT ON COLUMN run_overview.created_at IS 'UTC start, ISO 8601';
COMMENT ON COLUMN run_overview.state_at IS 'UTC time of the last state, ISO 8601';
COMMENT ON COLUMN run_overview.error IS 'what ended the run; NULL where nothing went wrong';
