// SPDX-License-Identifier: GPL-2.0-or-later
// Names of every kind for test_names.py: inlined in each other, templates, lambdas, operators, clones, cold parts. Allocates a little.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace shop
{
template <typename T> struct Shelf {
	std::vector<T> items;
	__attribute__((always_inline)) T &put(T v)
	{
		items.push_back(std::move(v));
		return items.back();
	}
	T sum() const
	{
		T s{};
		for (const T &i : items)
			s += i;
		return s;
	}
	bool operator<(const Shelf &other) const
	{
		return items.size() < other.items.size();
	}
};

struct Shape {
	virtual ~Shape() = default;
	virtual double area(int n) const = 0;
};
struct Square final : Shape {
	std::string name = "a square with a long name, beyond what fits in place";
	double area(int n) const override
	{
		return n * n + static_cast<double>(name.size());
	}
};
struct Round final : Shape {
	std::unique_ptr<int[]> cells{ new int[100]() };
	double area(int n) const override
	{
		return 3 * n + cells[static_cast<size_t>(n) % 100];
	}
};
} // namespace shop

static inline __attribute__((always_inline)) int innermost(shop::Shelf<int> &s, int n)
{
	return s.put(n * 3) + s.put(n);
}

static inline __attribute__((always_inline)) int middle(shop::Shelf<int> &s, int n)
{
	int all = 0;

	for (int i = 0; i < n; i++)
		all += innermost(s, i);
	return all;
}

static __attribute__((noinline)) int outer(shop::Shelf<int> &s, int n)
{
	return middle(s, n) + middle(s, n / 2);
}

__attribute__((noinline)) int may_throw(int n)
{
	if (n % 7 == 3)
		throw std::runtime_error("seven " + std::to_string(n));
	return n;
}

__attribute__((noinline)) int catches(int n)
{
	try {
		return may_throw(n);
	} catch (const std::exception &e) {
		return static_cast<int>(std::string(e.what()).size());
	}
}

__attribute__((noinline)) int lambdas(std::vector<int> &v)
{
	std::function<int(int)> twice = [&v](int x) { return x * 2 + static_cast<int>(v.size()); };

	std::sort(v.begin(), v.end(), [](int a, int b) { return a % 10 < b % 10; });
	return twice(v.empty() ? 1 : v[0]);
}

template <int N> __attribute__((noinline)) long fold(const std::map<std::string, long> &m)
{
	long all = N;

	for (const auto &[key, value] : m)
		all += value * static_cast<long>(key.size());
	return all;
}

extern "C" __attribute__((noinline)) int plain_name(int n)
{
	return catches(n) + 1;
}

int main(int argc, char **)
{
	shop::Shelf<int> s;
	std::vector<int> v;
	std::map<std::string, long> m;
	std::vector<std::unique_ptr<shop::Shape>> shapes;
	double all = 0;

	for (int i = 0; i < 50 + argc; i++) {
		v.push_back(i * 37 % 101);
		m["key " + std::to_string(i)] = i;
		all += plain_name(i) + outer(s, i);
	}
	shapes.push_back(std::make_unique<shop::Square>());
	shapes.push_back(std::make_unique<shop::Round>());
	for (const auto &shape : shapes)
		all += shape->area(argc);
	all += lambdas(v) + static_cast<double>(fold<1>(m) + fold<2>(m)) + s.sum();
	std::printf("%g\n", all);
	return 0;
}
