// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * C++ as services are built (-O2, no frame pointers; stripped by the test), allocating at the end of everything that makes stacks hard:
 * virtual calls, std::function, comparators inside of std::sort, maps, exceptions and destructors while one flies, regular expressions, streams,
 * large and variable frames, several kinds of threads. Runs until its standard input ends.
 */
#include <algorithm>
#include <alloca.h>
#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <vector>

namespace
{

std::atomic<bool> stop;
std::atomic<size_t> sink;

/* Longer than what std::string keeps inside of itself. */
std::string text(size_t n)
{
	return std::string(24 + n % 40, (char)('a' + n % 26)) + std::to_string(n);
}

struct node {
	virtual ~node() = default;
	virtual std::string print(size_t depth) const = 0;
};

struct leaf : node {
	std::string value;

	explicit leaf(size_t n) : value(text(n))
	{
	}
	std::string print(size_t depth) const override
	{
		return value + std::string(depth, ' ') + value;
	}
};

struct branch : node {
	std::vector<std::unique_ptr<node> > children;

	std::string print(size_t depth) const override
	{
		std::string all;

		for (const auto &c : children)
			all += c->print(depth + 1);
		return all;
	}
};

std::unique_ptr<node> grow(size_t depth, size_t n)
{
	if (!depth)
		return std::make_unique<leaf>(n);
	auto b = std::make_unique<branch>();

	for (size_t i = 0; i < 3; i++)
		b->children.push_back(grow(depth - 1, n + i));
	return b;
}

struct noisy_end {
	size_t n;

	~noisy_end()
	{
		sink += text(n).size();
	}
};

size_t fail_below(size_t depth)
{
	noisy_end end = { depth };

	if (depth)
		return fail_below(depth - 1) + end.n;
	throw std::runtime_error(text(depth));
}

void exceptions(size_t n)
{
	try {
		sink += fail_below(n % 12);
	} catch (const std::exception &e) {
		std::string why = e.what() + text(n);

		try {
			std::throw_with_nested(std::logic_error(why));
		} catch (const std::logic_error &outer) {
			sink += (outer.what() + text(n + 1)).size();
		}
	}
}

void sorting(size_t n)
{
	std::vector<std::string> all;

	for (size_t i = 0; i < 20; i++)
		all.push_back(text(n * 7919 + i * 104729));
	std::sort(all.begin(), all.end(), [](const std::string &a, const std::string &b) { return a + "!" < b + "!"; });
	std::stable_sort(all.begin(), all.end(), [](const auto &a, const auto &b) { return a.size() < b.size(); });
	sink += all.front().size();
}

void functions(size_t n)
{
	std::map<std::string, std::function<std::string(size_t)> > table;
	std::unordered_map<std::string, std::shared_ptr<node> > nodes;
	std::string tail = text(n);

	table["one"] = [tail](size_t i) { return text(i) + tail; };
	table["two"] = [&table](size_t i) { return table["one"](i + 1) + text(i); };
	table["three"] = std::bind([](const std::function<std::string(size_t)> &f, size_t i) { return f(i) + text(i); },
				   table["two"], std::placeholders::_1);
	for (auto &[name, f] : table)
		nodes[f(n)] = std::shared_ptr<node>(grow(2, n));
	for (auto &[name, tree] : nodes)
		sink += name.size() + tree->print(0).size();
}

void streams(size_t n)
{
	static const std::regex words("([a-z]+)([0-9]+)(,|$)");
	std::ostringstream out;
	std::smatch found;

	out << text(n) << ',' << n * 1.5 << ',' << text(n + 1);
	std::string all = out.str();

	if (std::regex_search(all, found, words))
		sink += found[1].str().size();
}

__attribute__((noinline)) size_t frames(size_t n, size_t depth)
{
	char *p = static_cast<char *>(alloca(100 + n % 1000));
	alignas(64) volatile char wide[512];

	memset(p, (int)n, 100);
	wide[n % 512] = p[n % 100];
	sink += text(n).size();
	return depth ? frames(n + 1, depth - 1) + (size_t)wide[n % 512] : 1;
}

void once(size_t n)
{
	exceptions(n);
	sorting(n);
	functions(n);
	streams(n);
	sink += frames(n, n % 6);
}

void work(size_t n)
{
	while (!stop) {
		once(n++);
		usleep(50000);
	}
}

} // namespace

int main()
{
	std::vector<std::thread> threads;
	char c;

	for (size_t i = 0; i < 2; i++)
		threads.emplace_back(work, i * 1000);
	threads.emplace_back([] {
		for (size_t n = 0; !stop; n++) {
			sink += std::async(std::launch::async, [n] { return (once(n), text(n)); }).get().size();
			usleep(100000);
		}
	});
	while (read(0, &c, 1) == 1)
		once((size_t)c);
	stop = true;
	for (auto &t : threads)
		t.join();
	return sink == 0;
}
